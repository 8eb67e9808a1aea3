"""Steps of Genesys Cloud: contacts, campaigns, media; never the path that a step takes."""
