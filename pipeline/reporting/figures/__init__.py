"""The figures of a report: numbers -> SVG."""
