"""Results → tables, figures, one HTML page, markdown. Imports no torch."""
