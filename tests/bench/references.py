"""What the machine can do: exactly this strategy fused with exactly these fills, and nothing else, by hand.

SMA cross on closes in whole ticks; a cross at a close fills at the next open; long only, all-in, a fee on each side; final equity
marked to the last close, the largest drawdown of the equity at closes, and the number of closed trades. With brackets: stop and
target are shares of the fill price, live from the entry bar on, the stop first, gaps fill at the open.

R1 is the scalar loop, which also records the fills; R2, for sweeps, takes the signs of whole blocks at once (SIMD) and looks at
equity only while a position is held. The serial and the parallel functions have names of their own, because numba's cache on disk
does not tell `parallel=True` from `False`.
"""

import numpy as np
from numba import njit, prange

FEE, CASH = 0.001, 1e7
STOP, TARGET = 0.02, 0.04
_BLOCK = 4_096
# A figure triple: final equity, largest drawdown (negative share), closed trades.
FIGURES = 3


@njit(cache=True)
def r1(opens, closes, fast, slow, fill_bars, fill_prices):
    """Scalar, one pass. Float columns in whole ticks, so the sums are exact."""
    cash, size, peak, worst, trades = CASH, 0.0, CASH, 0.0, 0
    fast_sum = slow_sum = 0.0
    last, pending, fills = 0, 0, 0
    for bar in range(closes.size):
        if pending != 0:
            fill_bars[fills], fill_prices[fills] = bar, opens[bar]
            fills += 1
            if pending == 1:
                size = cash / (opens[bar] * (1.0 + FEE))
                cash = 0.0
            else:
                cash = size * opens[bar] * (1.0 - FEE)
                size = 0.0
                trades += 1
            pending = 0
        close = closes[bar]
        fast_sum += close
        slow_sum += close
        if bar >= fast:
            fast_sum -= closes[bar - fast]
        if bar >= slow:
            slow_sum -= closes[bar - slow]
        if bar >= slow - 1:
            difference = fast_sum * slow - slow_sum * fast
            sign = int(difference > 0.0) - int(difference < 0.0)
            if sign != 0:
                if last != 0 and sign != last and (sign > 0) == (size == 0.0):
                    pending = sign
                last = sign
        equity = cash + size * close
        peak = max(peak, equity)
        if equity - peak < worst * peak:
            worst = equity / peak - 1.0
    return cash + size * closes[-1], worst, trades


@njit(cache=True)
def r1_brackets(opens, highs, lows, closes, fast, slow, fill_bars, fill_prices):
    """The same with stop and target inside the bar."""
    cash, size, peak, worst, trades = CASH, 0.0, CASH, 0.0, 0
    fast_sum = slow_sum = stop = target = 0.0
    last, pending, fills = 0, 0, 0
    for bar in range(closes.size):
        out = 0.0
        if pending == 1:
            size = cash / (opens[bar] * (1.0 + FEE))
            stop, target = opens[bar] * (1.0 - STOP), opens[bar] * (1.0 + TARGET)
            cash = 0.0
            fill_bars[fills], fill_prices[fills] = bar, opens[bar]
            fills += 1
        elif pending == -1:
            out = opens[bar]
        pending = 0
        if size > 0.0 and out == 0.0:
            if lows[bar] <= stop:
                out = min(opens[bar], stop)
            elif highs[bar] >= target:
                out = max(opens[bar], target)
        if out > 0.0:
            fill_bars[fills], fill_prices[fills] = bar, out
            fills += 1
            cash = size * out * (1.0 - FEE)
            size = 0.0
            trades += 1
        close = closes[bar]
        fast_sum += close
        slow_sum += close
        if bar >= fast:
            fast_sum -= closes[bar - fast]
        if bar >= slow:
            slow_sum -= closes[bar - slow]
        if bar >= slow - 1:
            difference = fast_sum * slow - slow_sum * fast
            sign = int(difference > 0.0) - int(difference < 0.0)
            if sign != 0:
                if last != 0 and sign != last and (sign > 0) == (size == 0.0):
                    pending = sign
                last = sign
        equity = cash + size * close
        peak = max(peak, equity)
        if equity - peak < worst * peak:
            worst = equity / peak - 1.0
    return cash + size * closes[-1], worst, trades


@njit(cache=True)
def r1_symbols(opens, closes, fast, slow, fill_bars, fill_prices):
    """R1 for each row of (symbols, bars), each with cash of its own."""
    figures = np.empty((opens.shape[0], FIGURES))
    for symbol in range(opens.shape[0]):
        figures[symbol, 0], figures[symbol, 1], figures[symbol, 2] = r1(
            opens[symbol], closes[symbol], fast, slow, fill_bars[symbol], fill_prices[symbol]
        )
    return figures


@njit(cache=True, parallel=True)
def r1_sweep(opens, closes, sets):
    """R1 for each (fast, slow) of ``sets``, on all cores."""
    figures = np.empty((sets.shape[0], FIGURES))
    for number in prange(sets.shape[0]):
        bars, prices = np.empty(closes.size, dtype=np.int64), np.empty(closes.size)  # pages that are not written cost nothing
        figures[number, 0], figures[number, 1], figures[number, 2] = r1(
            opens, closes, sets[number, 0], sets[number, 1], bars, prices
        )
    return figures


@njit(cache=True)
def prefix_sums(closes):
    """Sums of the first 0, 1, ... closes, in whole ticks."""
    sums = np.empty(closes.size + 1, dtype=np.int64)
    sums[0] = 0
    for bar in range(closes.size):
        sums[bar + 1] = sums[bar] + np.int64(closes[bar])
    return sums


@njit(cache=True)
def _drawdown(closes, start, stop, peak):
    """Deepest close / running peak - 1 of a stretch, and the peak at its end. Scalar; divides only at a new low."""
    worst = 0.0
    for bar in range(start, stop):
        peak = max(peak, closes[bar])
        if closes[bar] - peak < worst * peak:
            worst = closes[bar] / peak - 1.0
    return worst, peak


@njit(cache=True)
def _signs(newest, middle, oldest, fast, slow, signs):
    rest = slow - fast
    for bar in range(newest.size):
        difference = rest * newest[bar] - slow * middle[bar] + fast * oldest[bar]
        signs[bar] = np.int8(difference > 0) - np.int8(difference < 0)


@njit(cache=True)
def r2(opens, closes, sums, fast, slow):
    """Signs by the block, then fills from cross to cross; equity is looked at in between only while a position is held."""
    known = sums.size - slow
    newest, middle = sums[slow:], sums[slow - fast :]
    signs = np.zeros(_BLOCK, dtype=np.int8)
    words = signs.view(np.int64)
    cash, size, entered, peak, worst, trades = CASH, 0.0, 0, CASH, 0.0, 0
    last, same = 0, 0
    for start in range(0, known, _BLOCK):
        count = min(_BLOCK, known - start)
        stop = start + count
        _signs(newest[start:stop], middle[start:stop], sums[start:stop], fast, slow, signs)
        signs[count:] = 0
        for word in range((count + 7) // 8):
            if words[word] == same:
                continue
            for place in range(8 * word, 8 * word + 8):
                sign = signs[place]
                if sign == 0 or sign == last:
                    continue
                fill = start + place + slow
                if last != 0 and fill < closes.size and (sign > 0) == (size == 0.0):
                    if sign > 0:
                        size = cash / (opens[fill] * (1.0 + FEE))
                        entered = fill
                    else:
                        deepest, highest = _drawdown(closes, entered, fill, peak / size)
                        cash = size * opens[fill] * (1.0 - FEE)
                        worst, peak = min(worst, deepest), highest * size
                        worst = min(worst, cash / peak - 1.0)
                        peak = max(peak, cash)
                        size = 0.0
                        trades += 1
                last = sign
                same = 0x0101010101010101 if sign > 0 else -1
    if size > 0.0:
        worst = min(worst, _drawdown(closes, entered, closes.size, peak / size)[0])
        cash = size * closes[-1]
    return cash, worst, trades


@njit(cache=True, parallel=True)
def r2_sweep(opens, closes, sums, sets):
    """R2 for each (fast, slow) of ``sets``, on all cores."""
    figures = np.empty((sets.shape[0], FIGURES))
    for number in prange(sets.shape[0]):
        figures[number, 0], figures[number, 1], figures[number, 2] = r2(opens, closes, sums, sets[number, 0], sets[number, 1])
    return figures
