// What the server sends to a panel.
import { announce, listen } from './dom.js';

export const isOver = (state) => ['done', 'stopped', 'failed'].includes(state);

// Calls `receive` with the parsed value of a component, now and after each change. While there is no value, it gets `empty`, if given.
export const follow = ({ props, watch }, receive, empty) => {
  const look = () => {
    if (props.value || empty) receive(props.value ? JSON.parse(props.value) : empty);
  };
  watch('value', look);
  look();
};

// Takes the messages about a panel's jobs, which come by the feed or by gradio. A message changes the items on the page: the first
// `cut` of them stay, and `count` new ones follow. `show(message, fresh)` applies it; `fresh` marks the first message of a job.
// While a job has no items both numbers are 0, and the items of the previous job may stay. `receive` of the result starts it.
export const openChannel = ({ element, props, trigger, watch }, show) => {
  let newest = -1;                        // job of the newest message
  let shown = -1, isComplete = false;     // job whose items are on the page, and whether all of them are
  let ended = -1;                         // job whose end was reported last

  const accept = (message) => {
    const { n, cut, count, state } = message, over = isOver(state), fresh = n !== shown;
    if (n < newest) return;
    newest = n;
    announce('citer-state', { panel: props.panel, active: !over });
    if (cut + count > 0) [shown, isComplete] = [n, over];
    show(message, fresh);
    if (!over || n === ended) return;
    ended = n;
    trigger('ended');
  };

  listen(element, 'citer-news', ({ detail }) => { if (detail.panel === props.panel) accept(JSON.parse(detail.data)); });
  listen(element, 'citer-have', ({ detail }) => { if (isComplete) detail[props.panel] = shown; });
  return { receive: () => follow({ props, watch }, accept) };
};
