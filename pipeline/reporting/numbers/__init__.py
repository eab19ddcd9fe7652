"""The numbers of a report, from the tables of a run; nothing is drawn here."""
