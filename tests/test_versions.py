from __future__ import annotations

import torch

from smoe_ds.versions import installed_versions


def test_a_package_that_is_not_installed_is_told_too() -> None:
    found = installed_versions(["torch", "no-such-package"])
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["no-such-package"] == "not installed as a package"
