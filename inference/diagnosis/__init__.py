"""Diagnosing a posterior: readings, findings, pictures and a report."""

from .diagnose import diagnose, findings
from .diagnostic import Diagnosis, Diagnostic, Readings
from .finding import Check, Finding
from .findings import headline
from .subject import Subject, on_same_data, subject

__all__ = [
    "Check",
    "Diagnosis",
    "Diagnostic",
    "Finding",
    "Readings",
    "Subject",
    "diagnose",
    "findings",
    "headline",
    "on_same_data",
    "subject",
]
