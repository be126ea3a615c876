"""Which words is an identifier made of?"""

import re

# A run of capitals is a word of its own ("HTTPServer" is http, server); digits belong to the word before them
# ("b64encode" is b64, encode). The last branch takes whatever letters other alphabets bring.
_WORD = re.compile(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[0-9]+|[^_A-Za-z0-9]+")


def name_words(name: str) -> list[str]:
    """Split an identifier at underscores and capitals; the words are in lower case.

    >>> name_words("_get_HTTPServer_v2"), name_words("toJSON"), name_words("__")
    (['get', 'http', 'server', 'v2'], ['to', 'json'], [])
    """
    return [word.lower() for word in _WORD.findall(name)]
