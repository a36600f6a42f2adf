"""Statistics with the patient as the unit: tests, intervals, corrections, and what n can show."""
