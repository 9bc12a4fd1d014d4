"""What a run tells and leaves behind: the records of ``report.json``, the HTML page and the manifest."""

from graphpress.report.records import (
    Figures,
    LayerRecord,
    PassRecord,
    RefusalRecord,
    Report,
    SpeedVerdict,
    Verdict,
    from_json,
    to_json,
)

__all__ = [
    "Figures",
    "LayerRecord",
    "PassRecord",
    "RefusalRecord",
    "Report",
    "SpeedVerdict",
    "Verdict",
    "from_json",
    "to_json",
]
