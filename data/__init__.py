"""What we know: the labelled corpus and its card, the lexicon, the labelling guide, sample backlogs."""
