"""What is known of a line of text: its characters, its keys, its markup."""
