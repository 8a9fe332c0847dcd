"""`takings rebuild`: a read model made anew from the event logs beside the live one, compared with it, and put in its place."""
