"""A console for tables and progress bars."""

import sys
from typing import Any

from rich.console import Console


def make_console(**options: Any) -> Console:
    """Make rich's console; in a notebook it prints plain text.

    There rich would warn at each step of a bar, and its codes for the cursor would be
    shown as they are. Text is printed as it is: `[word]` in a user's name is no markup.

    Args:
        **options: As for rich's ``Console``.
    """
    if 'ipykernel' in sys.modules:
        options |= dict(force_jupyter=False, force_terminal=False)
    return Console(markup=False, **options)
