"""`takings check`: what must always hold, proved on live data by roles that only read."""
