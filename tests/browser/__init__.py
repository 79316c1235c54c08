"""The dashboard in a real browser. A package, so that its fixtures end before other folders' tests begin."""
