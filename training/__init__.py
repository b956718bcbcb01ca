"""How a model comes to be: load the corpus, fit, calibrate, evaluate, promote."""
