"""What there is to look at: the token viewer and report page."""
