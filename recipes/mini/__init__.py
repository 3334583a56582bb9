"""How the embedded model `mini` was made: its text, its training and its evaluation."""
