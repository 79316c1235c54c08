"""Where the domain's ports meet the world: time, HTTP, files, databases, price lists."""
