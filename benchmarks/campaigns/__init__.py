"""Campaigns: seeded, bounded attacks on the promises of design.md, each printing a table and one line of JSON."""
