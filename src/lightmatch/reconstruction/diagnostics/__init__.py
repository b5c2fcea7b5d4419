"""What came of a run, in numbers and words: why photos were left out, what to photograph next."""
