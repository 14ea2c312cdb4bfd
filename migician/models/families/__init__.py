"""One file for each model family: how it is asked, and how it writes boxes."""
