// A measured curve and the places on it, as `engine.operating_points.Curve` reads it: straight lines between measured points,
// both ends beyond them. A place is a point's number, with the fraction of the way to the next. Pure functions.
const [THRESHOLD, QUALITY, LOW, HIGH, SHARE] = [0, 1, 2, 3, 4];   // of a point, followed by its costs
const UNITS = { bytes: 5, flops: 6, seconds: 7 };
const UNIT_NAMES = { bytes: 'bytes moved', flops: 'FLOPs', seconds: 'modelled seconds' };
const UNIT_SHORT = { bytes: 'bytes', flops: 'FLOPs', seconds: 'seconds' };

const mix = (a, b, part) => a.map((value, i) => value * (1 - part) + b[i] * part);
const start = (point) => Math.min(point[THRESHOLD], 1);   // no score is above 1, so LLM-only begins right there

// The values at a place.
const valuesAt = (points, place) => {
  const before = Math.floor(place);
  if (place === before) return points[before];
  const between = mix(points[before], points[before + 1], place - before);
  between[THRESHOLD] = start(points[before]) * (before + 1 - place) + start(points[before + 1]) * (place - before);
  return between;
};

// The place of a column's value, the first on the way up; beyond the highest it is the last point.
const placeOf = (points, wanted, value) => {
  const found = points.findIndex((point) => value(point) >= wanted);
  if (found === 0) return 0;
  if (found < 0) return points.length - 1;
  const [a, b] = [value(points[found - 1]), value(points[found])];
  return found - 1 + (wanted - a) / (b - a);
};
const atThreshold = (points, threshold) => (threshold > 1 ? points.length - 1 : placeOf(points, threshold, start));
const atShare = (points, share) => placeOf(points, share, (point) => point[SHARE]);

// Cost as a share of LLM-only's.
const relative = (points, point, unit) => point[UNITS[unit]] / (points.at(-1)[UNITS[unit]] || 1);

// The best that a budget buys, in shares of LLM-only's cost; of equally good places the cheapest. Along a line quality and
// cost are linear, so it is a measured point or a place where the line crosses the budget.
const atBudget = (points, budget, unit) => {
  const costs = points.map((point) => relative(points, point, unit));
  const places = costs.flatMap((cost, i) => {
    const next = costs[i + 1] ?? cost, crosses = (cost - budget) * (next - budget) < 0;
    return [...(cost <= budget + 1e-9 ? [i] : []), ...(crosses ? [i + (budget - cost) / (next - cost)] : [])];
  });
  const cheapest = costs.indexOf(Math.min(...costs));
  return places.reduce((best, place) => {
    const [a, b] = [valuesAt(points, place), valuesAt(points, best)], gain = a[QUALITY] - b[QUALITY];
    const saves = relative(points, a, unit) < relative(points, b, unit);
    return gain > 1e-12 || (gain > -1e-12 && saves) ? place : best;
  }, cheapest);
};

// The measured point that maximises quality − λ · cost / cost of LLM-only; of equal ones the cheapest.
const atWeight = (points, weight, unit) => {
  const worth = points.map((point) => point[QUALITY] - weight * relative(points, point, unit));
  return worth.reduce((best, value, i) => (value > worth[best]
    || (value === worth[best] && relative(points, points[i], unit) < relative(points, points[best], unit)) ? i : best), 0);
};

// The cheapest measured point whose quality is at most so much below the LLM's; of equal ones the better.
const cheapestWithin = (points, below, unit) => {
  const enough = points.at(-1)[QUALITY] - below - 1e-9;
  const good = points.map((_, i) => i).filter((i) => points[i][QUALITY] >= enough);
  const cost = (i) => points[i][UNITS[unit]];
  return good.reduce((best, i) => (cost(i) < cost(best) || (cost(i) === cost(best) && points[i][QUALITY] > points[best][QUALITY]) ? i : best));
};

// Points that are best for some λ, cheapest first, each with the λ from which on it is: { place, cost, weight }.
const corners = (points, unit) => {
  const all = points.map((point, place) => ({ place, cost: relative(points, point, unit), quality: point[QUALITY] }));
  const hull = [];
  const slope = (a, b) => (b.quality - a.quality) / (b.cost - a.cost);
  for (const point of all.sort((a, b) => a.cost - b.cost || b.quality - a.quality)) {
    if (hull.length && point.quality <= hull.at(-1).quality) continue;
    while (hull.length > 1 && slope(hull.at(-2), hull.at(-1)) <= slope(hull.at(-1), point)) hull.pop();
    if (hull.length && point.cost <= hull.at(-1).cost) hull.pop();
    hull.push(point);
  }
  return hull.map((point, i) => ({ ...point, weight: i + 1 < hull.length ? slope(point, hull[i + 1]) : 0 }));
};

// The λ that goes with a place: in the middle of those for which it is best, else that of the nearest best points.
const weightAt = (points, place, unit) => {
  const hull = corners(points, unit), cost = relative(points, valuesAt(points, place), unit);
  const i = hull.findIndex((corner) => corner.place === place);
  if (i > 0) return (hull[i].weight + hull[i - 1].weight) / 2;
  if (i === 0) return hull.length > 1 ? 1.1 * hull[0].weight : 0;
  const after = hull.findIndex((corner) => corner.cost > cost);
  return after < 0 ? 0 : hull[Math.max(0, after - 1)].weight;
};

// A threshold to three digits of its distance from 0 and 1, as the server rounds those it measures.
const shortThreshold = (threshold) => {
  const distance = Math.min(threshold, 1 - threshold);
  const digits = distance <= 0 ? 2 : Math.min(9, Math.max(3, 2 - Math.floor(Math.log10(distance))));
  return Number(threshold.toFixed(digits));
};
