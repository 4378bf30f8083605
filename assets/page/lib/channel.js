// What the server sends to a panel.
import { listen } from './dom.js';

// Calls `receive` with what a component's value says (null where it is empty), now and whenever it is another.
export const follow = ({ props, watch }, receive) => {
  const look = () => receive(props.value ? JSON.parse(props.value) : null);
  watch('value', look);
  look();
};

// Puts together what comes in parts, by the feed or by gradio. Every message says which run it is about and from which
// item on; what is known already is skipped, and where something is missing the feed is opened anew. A run that goes on
// from the one on the page says in `kept` ([run, items]) how much of that stays. `cuts` counts how often items were taken
// back: with a further cut, those that are there from the message's first on are no more.
// `show(message, skip, fresh, have)` draws the items but the first `skip`; the first `have` are there and stay, and none
// after them; `fresh`: they are of another run or view.
// Nothing is received before `receive` is called.
export const openChannel = ({ element, props, trigger, watch }, show, isWhole = () => false) => {
  let newest = -1, run = -1, view = -1, cuts = 0, have = 0, fresh = true, over = false;
  let told = -1;   // the run whose end was told last, also of one that failed before it had anything

  const accept = (message) => {
    const { n, from, count, state, view: now = 0, cuts: cut = 0 } = message;
    if (n < newest || (n === run && (now < view || cut < cuts))) return;
    newest = n;
    const ends = ['done', 'stopped', 'failed'].includes(state);
    document.dispatchEvent(new CustomEvent('citer-state', { detail: { panel: props.panel, active: !ends } }));
    if (n !== run && count === 0 && !message.kept) {   // nothing of it yet
      show(message, 0, true, 0);
    } else {
      if (n !== run || now !== view) {
        const [base, items] = message.kept ?? [null, 0];
        have = base === run && now === view && items <= have && items === from ? items : 0;
        [run, view, cuts, fresh] = [n, now, cut, true];
      } else if (cut > cuts) {
        have = Math.min(have, from);
      }
      over = false;
      if (isWhole(message) && from + count >= have) have = 0;   // else an old one, shown again
      if (from > have) return document.dispatchEvent(new CustomEvent('citer-missed'));
      cuts = cut;
      show(message, Math.min(have - from, count), fresh, have);
      if (count > 0 || have > 0) fresh = false;
      have = Math.max(have, from + count);
      over = ends;
    }
    if (ends && n !== told) {
      told = n;
      trigger('ended');
    }
  };

  listen(element, 'citer-news', ({ detail }) => { if (detail.panel === props.panel) accept(JSON.parse(detail.data)); });
  listen(element, 'citer-have', ({ detail }) => { if (run >= 0) detail[props.panel] = `${run}.${have}.${Number(over)}.${cuts}`; });

  return {
    receive: () => follow({ props, watch }, (message) => { if (message) accept(message); }),
    // What is on the page is none of this any more, so that nothing of it can be kept.
    forget: () => { run = -1; have = 0; over = false; },
  };
};
