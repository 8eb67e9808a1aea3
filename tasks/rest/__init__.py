"""Steps that are written in the row itself: any REST call; never anything of one platform."""
