"""How several agents decide together who does something, or what is true: ballots and auctions. Pure."""
