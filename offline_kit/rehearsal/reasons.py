"""What a failing engine says, in one line with a remedy: the table of the host's scripts, asked by them.

Rules: there is one table and one reader of it (``scripts/lib/services/failure_reasons.sh``); what it does not know is told as
it was said.
"""

from __future__ import annotations

from offline_kit.common.child_process import TookTooLong, run_child
from offline_kit.host import assets

_READ = 60_000  # bytes of a log, from its end
_PATIENCE = 30.0  # seconds


def reason(text: str) -> str:
    """What a known failure in ``text`` means and what to do; empty where none is known, or no bash is there."""
    script = assets.root() / "scripts/lib/services/failure_reasons.sh"
    asked = ["bash", "-c", '. "$0"; service_reason "$1"; printf "%s" "$REPLY"', str(script), text.replace("\0", "")[-_READ:]]
    try:
        ended = run_child(asked, seconds=_PATIENCE, folder=script.parent)
    except (OSError, TookTooLong):
        return ""
    return ended.output.strip() if ended.code == 0 else ""
