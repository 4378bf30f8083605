// Four handles on one place of the curve: threshold, LLM share, cost budget, cost weight λ. A hand moves one, the others
// follow along the measured curve; the one in the hand keeps what it was given while the curve grows under it.
import {
  atBudget, atShare, atThreshold, atWeight, cheapestWithin, corners, relative, SHARE, shortThreshold, THRESHOLD, valuesAt, weightAt,
} from '../lib/curve.js';

const CHEAPEST_WITHIN = 0.02;   // quality below the LLM's, before a hand has moved anything

const inPercent = (part) => Number((100 * part).toFixed(1));
const short = (value) => Number(value.toPrecision(3));
const thresholdAt = (points, place) => shortThreshold(valuesAt(points, place)[THRESHOLD]);
const mostWeight = (points, unit) => 1.25 * corners(points, unit)[0].weight || 1;

// Per handle: where a value leads to, which value a place has, where on the range a value stands and how far the range
// goes, and the value that a position on the range reads as. Measured thresholds are evenly spaced on theirs, for they
// crowd just below 1; λ's is cubic, for small ones matter most.
const KINDS = {
  threshold: {
    place: atThreshold,
    value: thresholdAt,
    range: (points, value) => [atThreshold(points, value), points.length - 1],
    read: thresholdAt,
  },
  share: {
    place: (points, value) => atShare(points, value / 100),
    value: (points, place) => inPercent(valuesAt(points, place)[SHARE]),
    range: (points, value) => [value, 100],
    read: (points, at) => at,
  },
  budget: {
    place: (points, value, unit) => atBudget(points, value / 100, unit),
    value: (points, place, unit) => inPercent(relative(points, valuesAt(points, place), unit)),
    range: (points, value, unit) => [value, Math.max(100, ...points.map((point) => Math.ceil(100 * relative(points, point, unit))))],
    read: (points, at) => at,
  },
  weight: {
    place: atWeight,
    value: (points, place, unit) => short(weightAt(points, place, unit)),
    range: (points, value, unit) => [1000 * Math.cbrt(value / mostWeight(points, unit)), 1000],
    read: (points, at, unit) => short(mostWeight(points, unit) * (at / 1000) ** 3),
  },
};

// Calls `moved` after a hand has moved a handle; `state()` gives the points and the unit.
export class Picker {
  hand = null;   // { name, value }: what a hand asked for last

  constructor(element, state, moved) {
    this.handles = element.querySelectorAll('[data-handle]');
    element.addEventListener('input', ({ target }) => {
      const name = target.closest('[data-handle]')?.dataset.handle, typed = target.valueAsNumber;
      if (!name || !(typed >= 0)) return;   // a number's box may be half filled
      const { points, unit } = state();
      this.hand = { name, value: target.type === 'range' ? KINDS[name].read(points, typed, unit) : typed };
      moved();
    });
  }

  place(points, unit) {
    return this.hand === null ? cheapestWithin(points, CHEAPEST_WITHIN, unit) : KINDS[this.hand.name].place(points, this.hand.value, unit);
  }

  draw({ points, unit, place }) {
    for (const node of this.handles) {
      const name = node.dataset.handle, [number, range] = node.querySelectorAll('input'), held = this.hand?.name === name;
      const value = held ? this.hand.value : KINDS[name].value(points, place, unit);
      const [at, most] = KINDS[name].range(points, value, unit), within = Math.max(0, Math.min(most, at));
      range.max = most;
      if (document.activeElement !== range || !held) range.value = within;
      range.style.setProperty('--filled', most > 0 ? within / most : 0);
      range.setAttribute('aria-valuetext', `${value}${name === 'share' || name === 'budget' ? ' %' : ''}`);
      if (document.activeElement !== number || !held) number.value = value;
    }
  }
}
