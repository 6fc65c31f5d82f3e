"""The conformance kit: what a package of a modality or a fusion is checked for, by its author, in three lines.

```python
from crema_core.testing import conformance

test_conformance = conformance("radar")
```

The same checks run from `crema plugins check radar` and from `check_modality("radar")`. For a fusion it is
`conformance("weighted", kind="fusion")`, the same command, and `check_fusion("weighted")`. Nothing here imports torch
before a check needs it.
"""

from __future__ import annotations

from crema_core.testing.check import Report, Result
from crema_core.testing.session import check_fusion, check_modality, conformance

__all__ = ["Report", "Result", "check_fusion", "check_modality", "conformance"]
