"""A conversation with a model about several images: a page in the browser, and the same in a terminal."""
