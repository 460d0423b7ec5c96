"""Reports: one HTML page of a run, of two code files, of a search or of a comparison, with curves and galleries."""

from .comparison_report import write_comparison
from .gallery_page import write_gallery_page
from .report import Report, versions, write_report
from .retrieval_report import report_files, report_run

__all__ = [
    "Report",
    "report_files",
    "report_run",
    "versions",
    "write_comparison",
    "write_gallery_page",
    "write_report",
]
