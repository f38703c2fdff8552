"""How the bundled model was made: render emoji art, train two small towers, tune them together, export."""
