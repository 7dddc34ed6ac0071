"""Tables, plots and the page of a study, from its results alone."""
