"""The same pool, chosen from in many ways: cells, measures with intervals, tables, pictures and a page."""
