"""What a model is: features, classifier, the model file and its store; and the model we ship."""
