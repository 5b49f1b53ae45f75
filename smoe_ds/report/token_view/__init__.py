"""The token view: a sentence and its translation, every token coloured by the capacity that it took, block by block.

A page needs three things: what `token_view` returns for each sentence, `STYLE` in a ``<style>`` element, and `SCRIPT`
in a ``<script>`` element. ``smoeTokenView(element)`` brings the views inside an element to life; those that are there
when the page has loaded come to life by themselves. All text is escaped. Other parts of the page may have the same
colours: ``tv-c0`` to ``tv-c6`` inside an element of class ``tv-palette``.
"""

from smoe_ds.report.token_view.view import SCRIPT, STYLE, UNDETERMINED, token_view

__all__ = ["SCRIPT", "STYLE", "UNDETERMINED", "token_view"]
