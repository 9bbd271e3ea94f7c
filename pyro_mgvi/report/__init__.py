"""The HTML report of a fit: one file to show to a colleague."""

from pyro_mgvi.report.page import render, write_report

__all__ = ["render", "write_report"]
