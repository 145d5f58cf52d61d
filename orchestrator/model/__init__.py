"""What was written and what happened, as frozen data. No behaviour beyond reading itself."""
