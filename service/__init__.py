"""How a model is used: predict, explain, route, read and write backlogs; the command line."""
