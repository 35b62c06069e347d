"""When a null server turns bad: with the second window, not with its n-th answer, which a quick machine gives at once and a slow one never."""

from slipway import repetitions


def after_one_window(patch, directory, mischief):
    """
    Have a null server do *mischief* as soon as one window has been measured, for as long as *patch* (a MonkeyPatch) lasts.

    Returns:
        What to call the server with. The sign that it looks for is in *directory*.
    """
    sign = directory / "now"
    make = repetitions.repetition

    def repetition(*arguments, **options):
        made = make(*arguments, **options)
        sign.touch()
        return made

    patch.setattr(repetitions, "repetition", repetition)
    return f"{mischief}@{sign}"
