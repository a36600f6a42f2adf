"""Pictures and pages for people: the preview and the self-contained HTML report."""

from spinect.report.figures import write_preview
from spinect.report.html import Comparison, Page, write_html
from spinect.report.scene import Scene

__all__ = ["Comparison", "Page", "Scene", "write_html", "write_preview"]
