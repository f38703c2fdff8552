"""The reason why a picture cannot be used."""


class PictureError(Exception):
    """Why a picture cannot be used, in a sentence for its user."""
