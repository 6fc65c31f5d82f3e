"""The papers' data sets, the wordings of their questions, and the model that lmms-eval queries."""
