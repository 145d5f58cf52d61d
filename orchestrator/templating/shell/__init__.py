"""Command text: where in it each expression stands, and how a value is written there.

A lexer of shell text walks over the template's tree when it is loaded. Where branches meet it
goes on with every state they leave, as far as they agree on what is open; where they do not,
the template is refused. So each expression has one place, known before any value is, and its
value is escaped for that place. What decides about the text after it is never a value:

- ``words``: how far a word has come, and whether it is a name, an assignment, a keyword;
- ``state``: what is open, and the meeting of branches;
- ``lexer``, ``commands``, ``boundaries``, ``parentheses``, ``redirections``, ``documents``:
  the way over the text. What dash, bash and busybox do not read alike is a *doubt*: it may
  stand in a command, but no expression may come after it;
- ``places``: what is known of an expression's place, and where none may stand;
- ``escape``, ``lines``: values into text. Only when it is known whether a value would end a
  here-document, so the finished text is looked at for that;
- ``walk``, ``template``: all of it together.

``raw`` inserts text as it is. It stands among a command's words, and is lexed when it is known:
it has to leave nothing open, so that the text after it is read as it was when it was loaded.
The guarantee is about parsing. What a command makes of its arguments (``eval``, ``sh -c``,
``ssh``, and in bash ``declare``, ``unset``, ``let``, ``printf -v``, ``read``, ``test -v``, which
evaluate names) is another matter.
"""
