"""The verbs: each joins the packages below into one run."""
