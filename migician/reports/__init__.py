"""Runs to look at: tables, pictures, pages and files for other tools."""
