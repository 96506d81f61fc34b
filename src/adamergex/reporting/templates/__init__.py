"""The style of the HTML report."""
