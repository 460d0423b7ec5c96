"""Reports: one HTML page of a run or of two code files, with curves and galleries."""

from .report import Report, versions, write_report
from .retrieval_report import report_files, report_run

__all__ = ["Report", "report_files", "report_run", "versions", "write_report"]
