"""One module per figure: a pure function that makes the figure's data, next to a thin one that draws it."""
