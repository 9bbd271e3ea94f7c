"""Where training takes place: on one device, or on several that train together."""
