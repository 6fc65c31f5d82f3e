"""The report room: what a model costs, what a run did, as tables, plots, one HTML file and a model card."""
