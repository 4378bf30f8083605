// What the server sends to a panel.
import { listen } from './dom.js';

const ENDS = ['done', 'stopped', 'failed'];

// Calls `receive` with what a component's value says (null where it is empty), now and whenever it is another.
export const follow = ({ props, watch }, receive) => {
  const look = () => receive(props.value ? JSON.parse(props.value) : null);
  watch('value', look);
  look();
};

// Every message, by the feed or by gradio, is a change: of the items on the page the first `cut` stay, and `count` others follow.
// `show(message, fresh)` makes it; `fresh`: it is the first of another job. While a job has nothing yet, both are 0, and what the
// page has of the one before may stay. Nothing is received before `receive` is called.
export const openChannel = ({ element, props, trigger, watch }, show) => {
  let newest = -1, shown = -1, over = false;   // numbers of jobs: of the last message, and whose items are there, all of them or not
  let told = -1;   // whose end was told last

  const accept = (message) => {
    const { n, cut, count, state } = message, ends = ENDS.includes(state), fresh = n !== shown;
    if (n < newest) return;
    newest = n;
    document.dispatchEvent(new CustomEvent('citer-state', { detail: { panel: props.panel, active: !ends } }));
    if (cut + count > 0) [shown, over] = [n, ends];
    show(message, fresh);
    if (!ends || n === told) return;
    told = n;
    trigger('ended');
  };

  listen(element, 'citer-news', ({ detail }) => { if (detail.panel === props.panel) accept(JSON.parse(detail.data)); });
  listen(element, 'citer-have', ({ detail }) => { if (over) detail[props.panel] = shown; });
  return { receive: () => follow({ props, watch }, (message) => { if (message) accept(message); }) };
};
