"""What people and programs see: sinks of events, and the printing of plans, tables and problems.

``choose.sinks`` picks the sinks of a run. Besides ``cli``, only this package prints, and only
through ``out.Out``. Text that came from a host goes through ``clean`` before it is shown.
"""
