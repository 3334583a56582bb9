"""The tasks of `mini`: each file makes the exchanges of one of them."""
